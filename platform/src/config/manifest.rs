//! `image.toml`: what an image needs, and what it may use of size and memory.

use std::fmt;

use serde::Deserialize;

use super::typed::{self, ConfigurationError};

/// The manifest that an image carries and is built by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The service's name: that of its folder, its image and its configuration file.
    pub name: String,
    /// One line on what it does.
    pub description: String,
    /// The devices that it needs.
    #[serde(default)]
    pub devices: DeviceManifest,
    /// What the build and the tests hold it to.
    pub budget: Budget,
}

/// Named devices, in the order in which a virtual machine has them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceManifest {
    /// Network devices.
    #[serde(default)]
    pub net: Vec<String>,
    /// Block devices.
    #[serde(default)]
    pub block: Vec<String>,
}

/// Limits that a build or a test fails over.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Size of the stripped image in bytes.
    pub image_bytes: u64,
    /// RAM in which it boots and serves, in MiB.
    pub ram_mib: u32,
}

/// The manifest built into the image is wrong: a mistake of whoever built it.
#[derive(Clone, Debug)]
pub struct ManifestError(ConfigurationError);

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is not one, with the line.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        typed::parse("image.toml", text.as_bytes()).map_err(ManifestError)
    }
}
