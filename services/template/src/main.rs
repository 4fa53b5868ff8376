#![forbid(unsafe_code)]
//! The template service.
fn main() {}
