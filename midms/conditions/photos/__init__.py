"""Conditions from photos of people, without a hub: MediaPipe's networks, read by OpenCV.

`midms get photos` puts the network files into the cache (`midms.conditions.photos.models`); `annotate` uses them.
"""
