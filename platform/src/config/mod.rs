//! What an image is told: boot arguments, the configuration bundle, and the manifest that it was built with.
//!
//! | file | what it is |
//! |---|---|
//! | `arguments` | the command line, the same in a process and in a virtual machine |
//! | `bundle` | the files given with it: a tar archive, or a single TOML file |
//! | `typed` | TOML into a service's own types, with errors that say where and what would be right |
//! | `manifest` | `image.toml`: what the image needs and may use |

mod arguments;
mod bundle;
mod manifest;
mod nearest;
mod typed;

pub use arguments::{ArgumentError, Arguments, Ipv4Argument, Ipv6Argument, LogLevel, help};
pub use bundle::{Bundle, BundleError, MAX_BUNDLE};
pub use manifest::{Budget, DeviceManifest, Manifest, ManifestError};
pub use typed::{ConfigurationError, parse};
