"""From weights to a bundle: the network cut into three parts, exported, written with a manifest."""
