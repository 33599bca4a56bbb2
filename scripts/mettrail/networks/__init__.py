"""Networks of published methods that nnU-Net does not bring, each in the file of its name.

A network turns (B, channels, Z, Y, X) into (B, classes, Z, Y, X) logits, whatever the size. One that sees more than it
answers for says so: of an image with `context_vox` more voxels at either end of each axis, `answer` gives the logits of
what is inside. Outside the image there are zeros.
"""
