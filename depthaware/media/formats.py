"""File suffixes and FFmpeg formats of images and videos."""

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".jp2"),
    *(".ppm", ".pgm", ".tga"),
)
FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # that `panels.write_figure` writes
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".ts")

# FFmpeg knows stranger formats too: text files as "video", playlists that fetch from the network.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,gif"
