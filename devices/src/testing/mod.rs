//! A guest in memory.
