//! (see the helper's branch)
