//! DNS: what should be published, what is, and the one writer per zone that makes them equal.
