"""The model that comes with the package. Its files lie beside this one; see docs/pretrained.md."""

from pathlib import Path

FOLDER = Path(__file__).parent  # config.json, model.safetensors, README.md and what goes with it, SHA256SUMS
ATTRIBUTION = (
    "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification, "
    "Mendeley Data, 2018, CC BY 4.0; described in Kermany et al., Cell 172(5), 2018, doi:10.1016/j.cell.2018.02.010"
)  # of the radiographs it was trained on, which is owed by whatever begins with its weights
