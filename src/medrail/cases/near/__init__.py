"""Comes in: images. Goes out: pairs of them that are copies, whatever was done to one of the two.

``signature.signature_of`` makes of an image what is compared, ``pairs.near_pairs`` finds the pairs: sieves of
``spectrum`` first, then a fit of the crop (``cropfit``). How and why: docs/explanation/leaks.md.
"""
