"""File suffixes and FFmpeg formats of images and videos."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # that `panels.write_figure` writes
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".ts")

# FFmpeg knows stranger formats too: text files as "video", playlists that fetch from the network.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,gif"
MEDIA_FORMATS = f"{VIDEO_FORMATS},png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
