"""File suffixes and FFmpeg formats of the images and videos that are read."""

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".jp2"),
    *(".ppm", ".pgm", ".tga"),
)
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".ts")

# FFmpeg knows stranger formats too: text files as "video", playlists that fetch from the network.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,gif"
