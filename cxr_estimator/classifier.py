"""CXRClassifier: the scikit-learn face of the package. It checks, and delegates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from cxr_estimator import _fitting, _persistence, _predicting, _timm_checkpoint
from cxr_estimator._bundled import bundled_folder
from cxr_estimator._deciding import Deciding
from cxr_estimator._doubting import Doubting
from cxr_estimator._explaining import ExplanationPlan, joined
from cxr_estimator._outputs import Task
from cxr_estimator._progress import bar, told_how_far
from cxr_estimator._sharing import Sharing
from cxr_estimator.backbones import embedding_size
from cxr_estimator.card import ModelCard
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import Logits
from cxr_estimator.serialization import CONFIG_NAME, is_timm, read_json


class CXRClassifier(
    ClassNamePrefixFeaturesOutMixin, Deciding, Doubting, Sharing, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """A neural network for chest radiographs (or other images) as a scikit-learn classifier.

    Of two or more classes an image has one; where y has several columns, each is a label that it has or has not.

    Parameters
    ----------
    backbone : str, default="resnet18"
        Any timm model by name, or "plain_cnn", a small network that also suits 28 px.
    image_size : int, default=224
        Height and width of the network's input, in pixels.
    channels : {1, 3}, default=1
        Grey or RGB.
    resize : {"stretch", "pad", "crop"}, default="stretch"
    intensity : None, (low, high) or "minmax", default=None
        Range of stored pixel values that becomes [0, 1]; see `preprocessing.Preprocessing`. Rows (a 2-D array X) may
        hold any finite numbers: for them None means four standard deviations around the mean of what `fit` is given.
    image_shape : (int, int), optional
        Height and width of flat images, where X is a 2-D array of rows. Default: one line.
    pretrained : bool, "bundled" or path, default=False
        What `fit` starts from. True: timm's weights for the backbone. "bundled": the model that comes with the package,
        for its own backbone. A path: a local `.safetensors` file.
    dropout : float in [0, 1), optional
        Share of the features before the last layer that each training step leaves out, and that the uncertainty method
        "mc_dropout" samples. Default: the backbone's own, 0.1 for "plain_cnn" and 0 for most of timm.
    label_names : sequence of K str, optional
        What several labels per image are called. Default: the columns of y, if it is a data frame, else 0 to K - 1.
    pos_label : label, optional
        The label that sensitivity, thresholds and operating points speak of. Default for two classes: `classes_[1]`.
    threshold : float or str, default=0.5
        Probability of `pos_label` from which `predict` says `pos_label`; or a rule ("youden", "sensitivity>=0.95",
        "specificity>=0.9") that `fit` applies to its internal validation split. Two classes only.
    max_epochs, batch_size : int, default=20 and 32
    learning_rate, weight_decay : float, default=1e-3 and 0.05
        Peak rate and decay of AdamW.
    label_smoothing : float in [0, 1), default=0.05
    class_weight : None, "balanced" or dict of label to weight, default=None
        Weights the loss, and so shifts the probabilities, as in scikit-learn. Of several labels per image "balanced"
        weights each that is present by n_absent / n_present.
    augment : {"none", "light", "strong", "robust"}, default="light"
        Random changes of the training images; see `augmentation.AUGMENTATIONS`. "robust" is "strong" with other fields
        of view, aspect ratios, frames and exposures, for images from elsewhere.
    validation_fraction : float in [0, 0.5], default=0.1
        Share of the images, split off by patient, for early stopping, the threshold rule and `ood_`.
    patience : int or None, default=5
        Stop after this many epochs without a better validation AUROC (mean over classes or labels), and keep the best.
        None: all epochs run and the last is kept; validation patients are only reported on, but for a threshold rule.
    patient_pattern : str, optional
        Regular expression that finds the patient in a file path, for `fit` without `groups`.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" computes in bfloat16 (autocast; weights stay float32) where the processor or GPU does so natively; for
        predictions only if that moved no probability of 64 images by more than 0.005 when `fit` tried it.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps". Where a batch does not fit into its memory,
        smaller ones are used, with a `BatchSizeWarning`.
    on_error : {"raise", "skip"}, default="raise"
        What to do with unreadable images. Skipped ones are listed in a `SkippedImagesWarning`.
    checkpoint_dir : path, optional
        Folder for checkpoints, so that `fit` takes up a run that was killed; see `training.train`. Needs an integer
        `random_state`. The finished run is kept as well: delete the folder when it is no longer needed.
    cache_dir : path, optional
        Folder in which decoded image files are kept at model size, shared by folds, runs and processes.
    n_jobs : int, optional
        Threads that decode images, in joblib's sense. Default: as many as torch computes with.
    verbose : int, default=0
        1 shows progress on the terminal.
    random_state : int, RandomState, Generator or None, default=None
        The same integer, data and machine give the same network.

    Attributes
    ----------
    task_ : Task
        "binary", "multiclass", or "multilabel" for several labels per image.
    classes_ : ndarray (K,)
        Sorted labels, or the names of several labels per image: the columns of `predict_proba`.
    pos_label_ : label or None
        The positive label; None for several classes without `pos_label`, and for several labels per image.
    model_ : torch.nn.Module
        One logit for two classes (log-odds of `classes_[1]`), else K logits (the log-odds of several labels).
    threshold_ : float or None
        The active operating point, as a probability of `pos_label_`.
    operating_points_ : dict of str to OperatingPoint
    thresholds_ : dict of str to float
        The probability from which each operating point counts its label as present.
    calibration_ : Calibration or None
    class_weights_ : ndarray (K,)
        What the loss weighed each class with.
    preprocessing_ : Preprocessing
    n_features_in_, feature_names_in_ : int and ndarray of str
        Only where X came as rows; the names, where it was a data frame.
    background_ : ndarray (b, C, S, S), uint8, or None
        What SHAP methods compare with: means of at least 20 patients each, at model size, at most four per class.
        None where there were fewer patients.
    ood_ : OodStatistics or None
        What ordinary images are like, for `check_images`: averages of at least 20 patients, and the scores of others.
        None where fewer than 20 patients trained or validated; `fit_ood` makes it afterwards.
    bfloat16_change_ : float
        How far bfloat16 moved a probability of 64 validation images at most (training images where there are none).
    conformal_ : Conformal or None
        What `predict_set` compares with, kept by `conformalize`.
    card_ : ModelCard or None
        What its author wrote about a model that was loaded; see `save`.
    provenance_ : Provenance or None
        How many images of how many patients trained and validated, and how it did on the latter; None where unknown.
    history_ : pandas.DataFrame
        One row per epoch: epoch, train_loss, val_loss, val_auroc, learning_rate, seconds, best.
    skipped_ : tuple of SkippedImage
        Training images that could not be read.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> data = make_phantoms(40, size=32)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, pos_label="PNEUMONIA", random_state=0)
    >>> clf.fit(data.X, data.y, groups=data.groups).predict_proba(data.X[:2]).shape
    (2, 2)
    """

    task_: Task
    architecture_: dict[str, Any]

    def __init__(
        self,
        backbone="resnet18",
        *,
        image_size=224,
        channels=1,
        resize="stretch",
        intensity=None,
        image_shape=None,
        pretrained=False,
        dropout=None,
        label_names=None,
        pos_label=None,
        threshold=0.5,
        max_epochs=20,
        batch_size=32,
        learning_rate=1e-3,
        weight_decay=0.05,
        label_smoothing=0.05,
        class_weight=None,
        augment="light",
        validation_fraction=0.1,
        patience=5,
        patient_pattern=None,
        precision="auto",
        device="auto",
        on_error="raise",
        checkpoint_dir=None,
        cache_dir=None,
        n_jobs=None,
        verbose=0,
        random_state=None,
    ):
        self.backbone = backbone
        self.image_size = image_size
        self.channels = channels
        self.resize = resize
        self.intensity = intensity
        self.image_shape = image_shape
        self.pretrained = pretrained
        self.dropout = dropout
        self.label_names = label_names
        self.pos_label = pos_label
        self.threshold = threshold
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.patient_pattern = patient_pattern
        self.precision = precision
        self.device = device
        self.on_error = on_error
        self.checkpoint_dir = checkpoint_dir
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32, whatever the images were
        return tags

    # -- fit ----------------------------------------------------------------------------------------------------------

    def fit(self, X, y, *, groups=None, sample_weight=None) -> CXRClassifier:
        """Train the network.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays; or an array (N, H, W), (N, H, W, C), (N, C, H, W) or (N, F)
            See `images.as_images`.
        y : sequence of N labels, or array or data frame (N, K)
            K > 1 columns are labels that may go together: 1 present, 0 absent, NaN unknown, which trains nothing.
        groups : sequence of N patients, optional
            Keeps each patient on one side of the internal validation split.
        sample_weight : sequence of N numbers, optional

        Raises
        ------
        InvalidParameterError, InvalidTypeError, DataError, ImageError
            A parameter, the labels or an image cannot be used; TrainingError: the loss became infinite.
        """
        return _fitting.fit(self, X, y, groups, sample_weight)

    def _images(self, X: Any) -> ImageSequence:
        return _predicting.images(self, X)

    def _members(self) -> list[CXRClassifier]:
        return [self]

    @property
    def _default_seed(self) -> Any:
        return self.random_state

    def _run(self, X: Any) -> Logits:
        return _predicting.run_network(self, X)

    def _embed(self, X: Any) -> Logits:
        return _predicting.run_embedding(self, X)

    def transform(self, X) -> np.ndarray:
        """Return embeddings (N, D), float32: the pooled features that enter the last layer of the network.

        As many rows as X has; with `on_error="skip"` the row of an unreadable image is NaN, and a warning lists it.
        `get_feature_names_out` names the columns, `set_output(transform="pandas")` asks for a data frame.
        """
        return self._embed(X).values

    @property
    def _n_features_out(self) -> int:  # scikit-learn's word for D
        return embedding_size(self.model_)

    # -- explain ------------------------------------------------------------------------------------------------------

    def explain(
        self,
        X,
        y=None,
        *,
        method="grad_cam",
        target="predicted",
        error_bars=False,
        batch_size=None,
        random_state=None,
        background=None,
        progress=None,
        **options,
    ) -> Any:
        """Explain the output for each image.

        Parameters
        ----------
        X : images
            As for `predict_proba`. Unreadable images are left out with `on_error="skip"`; `Explanation.index` tells.
        y : sequence of N true labels, optional
            Needed for target "true", and shown in figures. Of several labels per image (N, K).
        method : str or list of str, default="grad_cam"
            Keys of `attribution.METHODS`. Several share what work they can, and give a dict of explanations.
        target : label, "predicted", "true" or "margin", default="predicted"
            What is explained: the network's own log-odds (or logit), before any calibration, of that class, of the
            decided or of the true one. "margin" is how far they lie beyond the operating point, on the decided side. Of
            several labels per image one must be named.
        error_bars : bool, default=False
            Repeat the method five times, over seeds where it is random and over images with 2% noise where it is not;
            the map is the mean, and `Explanation.spread` the pointwise standard deviation.
        batch_size : int or "auto", optional
            Images at once, if not the `batch_size` of the classifier. "auto": as many as keep the activations under
            1 GiB, or under half of the GPU's free memory.
        random_state : int, optional
            Seeds the random methods, together with each image's content; default: that of the classifier.
        background : images, optional
            What SHAP methods, and baselines of the same name, compare with; default: `background_`, made by `fit`.
        progress : callable, optional
            Called as `progress(done, total)` between batches, in images and fractions of one. What it raises stops the
            work, and the network is as it was.
        **options
            Options of the methods; each method takes those it knows. `docs/methods.md` lists them.

        Returns
        -------
        Explanation, or dict of str to Explanation for a list of methods
        """
        plan = self._explanation_plan(
            X,
            y,
            method,
            target=target,
            error_bars=error_bars,
            batch_size=batch_size,
            random_state=random_state,
            background=background,
            progress=progress,
            **options,
        )
        n_images = len(plan.images)
        with bar(n_images, "explaining", self.verbose) as advance:
            plan = replace(plan, progress=told_how_far(advance, progress))
            return joined(list(_parts(plan, method)), n_images)

    def iter_explain(self, X, y=None, *, method="grad_cam", **request) -> Iterator[Any]:
        """Yield what `explain` returns in parts of `batch_size` images, in flat memory. Takes the same parameters."""
        return _parts(self._explanation_plan(X, y, method, **request), method)

    def _explanation_plan(self, X: Any, y: Any, method: Any, **request: Any) -> ExplanationPlan:
        return ExplanationPlan.check(self, X, y, [method] if isinstance(method, str) else method, **request)

    # -- save and load ------------------------------------------------------------------------------------------------

    def _write(self, folder: Path, dtype: str | None, card: ModelCard) -> dict[str, str]:
        return _persistence.save(self, folder, dtype, card)

    def _file_names(self) -> list[str]:
        return list(_persistence.FILES)

    @classmethod
    def _bundled(cls) -> Path:
        return bundled_folder()

    @classmethod
    def _read(cls, folder: Path, device: str) -> CXRClassifier:
        return _persistence.load(cls, folder, device)

    @classmethod
    def _read_other(cls, folder: Path, device: str) -> CXRClassifier | None:
        path = folder / CONFIG_NAME
        is_other = path.is_file() and is_timm(read_json(path))
        return _timm_checkpoint.read(cls, folder, device) if is_other else None


def _parts(plan: ExplanationPlan, method: Any) -> Iterator[Any]:
    """Yield the explanations of each batch: of one method as they are, of several as a dict."""
    parts = plan.run(lambda explained: explained.found)
    return (found[method] if isinstance(method, str) else found for found in parts)
