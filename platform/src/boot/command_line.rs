//! The command line of the virtual machine: words for `argv`, and some for the platform.

/// What Linux names the parameter by which a virtual machine monitor announces a virtio device over MMIO.
const VIRTIO_MMIO: &str = "virtio_mmio.device=";

/// Splits `line` into words and writes them into `words`, each ended by a NUL byte. White space separates words;
/// single or double quotes keep it within one and are dropped. `each` is told the offset of every word in `words`.
/// Words for the platform are left out, and what does not fit is dropped.
pub(crate) fn split(line: &[u8], words: &mut [u8], mut each: impl FnMut(usize)) {
    let mut length = 0;
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return;
        }
        let start = length;
        let mut quote = None;
        while let Some(byte) =
            rest.next_if(|byte| *byte != 0 && (quote.is_some() || !byte.is_ascii_whitespace()))
        {
            match (byte, quote) {
                (b'"' | b'\'', None) => quote = Some(byte),
                (_, Some(open)) if byte == open => quote = None,
                _ => {
                    let Some(place) = words.get_mut(length) else { return };
                    *place = byte;
                    length += 1;
                }
            }
        }
        let Some(end) = words.get_mut(length) else { return };
        *end = 0;
        if words[start..length].starts_with(VIRTIO_MMIO.as_bytes()) {
            length = start;
        } else {
            each(start);
            length += 1;
        }
        if rest.next_if_eq(&0).is_some() {
            return;
        }
    }
}

/// The values of all `virtio_mmio.device=` words.
pub(crate) fn virtio_mmio_devices(line: &[u8]) -> impl Iterator<Item = &str> {
    line.split(u8::is_ascii_whitespace)
        .filter_map(|word| core::str::from_utf8(word).ok()?.strip_prefix(VIRTIO_MMIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        let mut buffer = [0xff; 64];
        let mut starts = Vec::new();
        split(line.as_bytes(), &mut buffer, |start| starts.push(start));
        let word = |&start: &usize| {
            let end = buffer[start..].iter().position(|byte| *byte == 0).unwrap() + start;
            String::from_utf8(buffer[start..end].to_vec()).unwrap()
        };
        starts.iter().map(word).collect()
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words(r#"  a "b c"  d='e "f'g"#), ["a", "b c", "d=e \"fg"]);
        assert_eq!(words("\"\" x"), ["", "x"]);
        assert_eq!(words("open 'to the end"), ["open", "to the end"]);
    }

    #[test]
    fn words_of_the_platform_are_kept_aside() {
        let line = "a virtio_mmio.device=4K@0xd0000000:5 b virtio_mmio.device=512@0xfeb00000:12";
        assert_eq!(words(line), ["a", "b"]);
        let devices: Vec<_> = virtio_mmio_devices(line.as_bytes()).collect();
        assert_eq!(devices, ["4K@0xd0000000:5", "512@0xfeb00000:12"]);
    }

    #[test]
    fn what_does_not_fit_is_dropped_whole() {
        let long = "x".repeat(60);
        assert_eq!(words(&format!("{long} four fives")), [long]);
    }

    proptest! {
        #[test]
        fn any_line_gives_words_that_end(line: Vec<u8>, room in 0_usize..40) {
            let mut buffer = vec![0xff; room];
            let mut starts = Vec::new();
            split(&line, &mut buffer, |start| starts.push(start));
            for start in starts {
                prop_assert!(buffer[start..].contains(&0));
            }
        }
    }
}
