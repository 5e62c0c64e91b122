"""rosbag2 files: made from videos, played, restored and compared, over the rosbags library."""
