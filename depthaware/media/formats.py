"""File suffixes of images and videos."""

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".jp2"),
    *(".ppm", ".pgm", ".tga"),
)
FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # that `panels.write_figure` writes
VIDEO_SUFFIXES = (  # of files that are taken for clips in a folder; a file that is named may have any other
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".flv", ".f4v", ".wmv", ".asf", ".ogv", ".mxf", ".gif", ".apng"),
)
