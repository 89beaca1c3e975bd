"""Model folders <-> the Hugging Face Hub, in whole commits and with errors that say what to do."""

from cxr_estimator.hub._comparing import Change, Differences, differences
from cxr_estimator.hub._errors import check_repo_id, check_revision
from cxr_estimator.hub._fetching import discard_damaged, fetch
from cxr_estimator.hub._locating import Located, locate
from cxr_estimator.hub._pulling import pull
from cxr_estimator.hub._pushing import Pushed, push
from cxr_estimator.hub._remote import Remote, address

__all__ = [
    "Change",
    "Differences",
    "Located",
    "Pushed",
    "Remote",
    "address",
    "check_repo_id",
    "check_revision",
    "differences",
    "discard_damaged",
    "fetch",
    "locate",
    "pull",
    "push",
]
