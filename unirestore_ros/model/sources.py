"""Where the published weights are, and under which terms.

Addresses: the README of github.com/unirestore/UniRestore at the revision named here, and the
folder of its code that holds the embedding of the empty prompt.
"""

from __future__ import annotations

UNIRESTORE_REVISION = "6457cd1406e03be627dd06710406169671d89afb"

SD_TURBO = "stabilityai/sd-turbo"
STAGE1 = "https://drive.google.com/uc?id=1a7c8zL8XXd7m3dDEQWZMpQagnkBpdGnK"
STAGE2 = "https://drive.google.com/uc?id=1m2a-8SUtVZaG5ovysJKWqc_mzgGCtDrx"
NULL_EMBEDDING = (
    "https://raw.githubusercontent.com/unirestore/UniRestore/"
    f"{UNIRESTORE_REVISION}/src/modules/diffuie/sd_null_emb.pt"
)

SHA256 = {NULL_EMBEDDING: "333561c8f153ec2d3fa87f397640650a139df3ef6fe40eaea04d6c1df1ed4f91"}
"""Of what is known beforehand. Hugging Face sends those of its files; none are published for the
two checkpoints."""

LICENCES = """\
What is downloaded is not this package's, and each has terms of its own:
  UniRestore's checkpoints and embedding: MIT (github.com/unirestore/UniRestore)
  SD-Turbo, about 3.8 GB: Stability AI's licence for non-commercial research
    (huggingface.co/stabilityai/sd-turbo). Weights made with it are bound by it too.
"""
