//! dav
mod error;
mod path;
mod precondition;
mod xml;
