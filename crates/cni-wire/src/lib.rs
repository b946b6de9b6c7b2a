//! CNI types, and the words that the plugin and the node agent say to each other.
