"""The recipes are scripts that import their neighbours."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "recipes" / "pneumonia"
sys.path.insert(0, str(FOLDER))
