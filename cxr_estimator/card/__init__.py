"""The model card: what a model is, what it was made from, how well it did and what was not measured."""

from cxr_estimator.card._model_card import AUDIT_NAME, CARD_NAME, PICTURE_NAME, ModelCard

__all__ = ["AUDIT_NAME", "CARD_NAME", "PICTURE_NAME", "ModelCard"]
