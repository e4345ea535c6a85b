"""Draw the moving photo of docs/animate.md: scikit-image's astronaut (NASA, public domain) under the bundled clip.

python examples/benchmarks/draw_photo.py docs/photo.webp
"""

import sys
from importlib.resources import files

from PIL import Image
from skimage import data

from depthaware import DaGAN, animate, optimize, read_video

EVERY, SIZE = 3, (448, 448)


def main() -> None:
    video = read_video(str(files("depthaware") / "assets" / "driving.mp4"))
    frames = animate(optimize(DaGAN.from_pretrained("dagan-tiny")), data.astronaut(), video)
    images = [Image.fromarray(frame.image).resize(SIZE) for frame in frames][::EVERY]
    duration = round(1000 * EVERY / video.rate)
    images[0].save(
        sys.argv[1], save_all=True, append_images=images[1:], duration=duration, loop=0, quality=55, method=6
    )


if __name__ == "__main__":
    main()
