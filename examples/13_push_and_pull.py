"""Push a model to the Hugging Face Hub, pull it, and get the same probabilities and the same explanations.

python examples/13_push_and_pull.py [OUTPUT_FOLDER] [USER/MODEL]

It meets no network: unless HF_ENDPOINT is set, it starts the small Hub of this project's tests on this machine. For the
real one: HF_ENDPOINT=https://huggingface.co HF_TOKEN=... python examples/13_push_and_pull.py OUTPUT_FOLDER USER/MODEL
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/13_push_and_pull")
output.mkdir(parents=True, exist_ok=True)
name = sys.argv[2] if len(sys.argv) > 2 else "alice/phantoms"
if "HF_ENDPOINT" not in os.environ:  # this must come before anything that imports huggingface_hub
    from _local_hub import start

    start(output / "cache")

from cxr_estimator import CXRClassifier, ModelCard, evaluate, make_phantoms, patient_split  # noqa: E402
from cxr_estimator.figures import plot_comparison  # noqa: E402

data = make_phantoms(400, size=48, difficulty=0.0, random_state=0)
train, test = patient_split(data.y, data.groups, fractions=(0.75, 0.25), random_state=0)
X, y, patients = data.X[test], data.y[test], data.groups[test]
clf = CXRClassifier(
    "plain_cnn", image_size=48, max_epochs=6, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA", random_state=0
)
clf.fit(data.X[train], data.y[train], groups=data.groups[train])

# one commit of weights, settings, a card with what was measured, and checksums; no image, no file name, no patient
card = ModelCard(license="mit", evaluation=evaluate(clf, X, y, patients))
done = clf.push_to_hub(name, card=card)
print(f"pushed to {name}:", ", ".join(sorted(done.changed)))
print("a second push sends:", ", ".join(clf.push_to_hub(name, card=card).changed) or "nothing")

# a commit pins the model for good: whoever pulls it gets these very bytes, which are compared with their checksums
pulled = CXRClassifier.from_pretrained(name, revision=done.oid)
print("same probabilities after pulling:", (pulled.predict_proba(X) == clf.predict_proba(X)).all())
maps = [model.explain(X[:1], method="occlusion", target="PNEUMONIA") for model in (clf, pulled)]
print("same maps after pulling:", (maps[0].values == maps[1].values).all())
plot_comparison(*maps, names=("pushed", "pulled")).savefig(output / "same.png", dpi=80)
