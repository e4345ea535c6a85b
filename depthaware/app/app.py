"""Entry of the page on a Hugging Face Space, beside README.md and requirements.txt; elsewhere use `depthaware app`."""

import threading

from depthaware import DaGAN
from depthaware.app.server import serve
from depthaware.app.studio import Studio

if __name__ == "__main__":
    with serve(Studio(DaGAN.from_pretrained("dagan-tiny"))):
        threading.Event().wait()
