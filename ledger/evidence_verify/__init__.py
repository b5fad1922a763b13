"""The verifier of an evidence bundle, in parts that are joined into the one file `verify.py`.

It is handed to people who trust neither us nor our machines: standard library only, Python 3.9,
no import from outside this folder, no network. The bundle is made with the same parts, so that the
verifier can make every page of it again and compare.
"""
