"""A small server that speaks to the huggingface_hub client as the Hub does. It was not compared with the real one.

`Store` holds repositories, commits, branches, tags and large objects; `HubServer` speaks HTTP and records requests;
`Fault` is what a test plants to see how clients bear a Hub that misbehaves; `check_card` stands for the Hub's
validation of the metadata in a README.
"""

from tests.hub.cards import check_card
from tests.hub.connection import OTHER, READ, WRITE, Request
from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.hub.store import Refusal, Repository, Store

__all__ = ["OTHER", "READ", "WRITE", "Fault", "HubServer", "Refusal", "Repository", "Request", "Store", "check_card"]
