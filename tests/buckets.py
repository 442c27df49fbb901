"""A bucket for tests: TensorFlow's file system `ram://`, which lives in this process."""

import uuid

from keras_mtl.remote_files import RemoteDirectory


def new_url(monkeypatch, cache):
    """Returns the URL of a new bucket, and puts the local copies into a directory.

    `ram://` appends to a file that exists, and the file systems that it stands for replace it. It
    is removed first here.
    """
    monkeypatch.setenv("KERAS_MTL_CACHE", str(cache))
    for method, position in (("write", 0), ("upload", 1)):
        call = getattr(RemoteDirectory, method)

        def replace(self, *words, call=call, position=position):
            self.remove(words[position])
            call(self, *words)

        monkeypatch.setattr(RemoteDirectory, method, replace)
    return f"ram://bucket-{uuid.uuid4().hex}"
