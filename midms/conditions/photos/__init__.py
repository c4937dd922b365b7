"""Conditions from photos of people, with MediaPipe's networks run by OpenCV.

`midms get photos` puts the network files into the cache (`midms.conditions.photos.models`); `annotate` uses them.
"""
