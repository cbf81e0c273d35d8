//! The objects users write: types only, one file a kind.
pub mod names;
