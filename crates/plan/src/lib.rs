//! A pure compiler: the world of Kubernetes objects in, northbound facts out.
