//! Integration services.
