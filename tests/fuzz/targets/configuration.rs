//! What an operator gives an image: bundle, arguments, the service's file.
#![no_main]

use caldav::configuration::Configuration;
use libfuzzer_sys::fuzz_target;
use platform::config::{Arguments, Bundle};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::read(bytes, "caldav.toml") {
        let _ = Configuration::of_bundle(&bundle);
    }
    let words = String::from_utf8_lossy(bytes);
    let _ = Arguments::parse(words.split('\n').map(str::to_owned));
});
