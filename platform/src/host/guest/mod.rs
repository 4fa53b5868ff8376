//! A virtual machine as host: the image is its kernel.

pub(crate) mod pci;
pub(crate) mod virtio;
