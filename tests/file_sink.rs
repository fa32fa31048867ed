//! The sink `file`, asked directly: each delivery is in the file once, whatever is cut, killed or full.
