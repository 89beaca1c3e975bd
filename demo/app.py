"""The Space of a chest-radiograph classifier. Research and education only, not a medical device."""

# Made by `cxr deploy-space`, which writes this file anew: settings of your own belong into another Space.
from cxr_estimator.demo import Settings, launch

if __name__ == "__main__":
    launch(Settings(models=(), allow_hub=True, device="auto"))
