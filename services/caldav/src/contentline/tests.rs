//! The parser on what clients really send, and against the `ical` crate where that is right.

use proptest::prelude::*;

use super::*;

#[test]
fn folds_are_removed_without_a_trace() {
    for (folded, unfolded) in [
        (&b"A:here\r\n  it"[..], "A:here it"),
        (b"A:here \r\n it", "A:here it"),
        (b"A:tab\n\tbed", "A:tabbed"),
        (b"A:\xc3\r\n \xbc", "A:\u{fc}"),
        (b"\xef\xbb\xbfA:b", "A:b"),
        (b"A:b\r\n \r\n c", "A:bc"),
        (b"A:b\r\nC:d", "A:b\r\nC:d"),
    ] {
        assert_eq!(decode(folded).unwrap(), unfolded);
    }
    assert_eq!(decode(b"A:\xc3"), Err(ParseError::NotUtf8));
}

#[test]
fn a_line_is_name_parameters_and_value() {
    let line = property("ATTENDEE;CN=\"Doe, John: x\";X=a,\"b;c\",^n^^^':mailto:a@b:c").unwrap();
    assert_eq!((line.name, line.value), ("ATTENDEE", "mailto:a@b:c"));
    let parameters: Vec<(_, Vec<_>)> =
        line.parameters().map(|p| (p.name, p.values().map(Cow::into_owned).collect())).collect();
    assert_eq!(
        parameters,
        [
            ("CN", vec!["Doe, John: x".to_owned()]),
            ("X", vec!["a".to_owned(), "b;c".to_owned(), "\n^\"".to_owned()])
        ]
    );
    assert_eq!(property("item1.TEL;HOME;VOICE:+1").unwrap().parameter("type").unwrap(), "HOME");
    assert!(property("item1.TEL:+1").unwrap().is("tel"));
    assert_eq!(property("X::-)").unwrap().value, ":-)");
    for bad in ["", ":", "A", ";A=b:c", "A;B=\"c:d", "A B:c", "\u{fc}:c"] {
        assert_eq!(property(bad), None, "{bad}");
    }
}

#[test]
fn texts_are_unescaped_and_split() {
    assert_eq!(unescape("a\\nb\\, c\\; d\\\\ \\x \\"), "a\nb, c; d\\ \\x \\");
    assert_eq!(split_unescaped("a\\,b,c,,\\\\,", b',').collect::<Vec<_>>(), ["a\\,b", "c", "", "\\\\", ""]);
}

#[test]
fn components_nest_and_unknown_ones_are_kept() {
    let text = "begin:vcalendar\nX:1\n\nBEGIN:X-Foo\nBEGIN:VAVAILABILITY\nEND:vavailability\nEND:X-FOO\nEND:VCALENDAR\n";
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.len(), 1);
    assert!(parsed[0].is("VCALENDAR"));
    assert_eq!(parsed[0].components[0].name, "X-Foo");
    assert_eq!(parsed[0].components[0].components[0].name, "VAVAILABILITY");
    for (bad, error) in [
        ("A:b", ParseError::Outside { line: 1 }),
        ("BEGIN:A\nBEGIN:B\nEND:A\nEND:B", ParseError::End { line: 3, expected: "B".into() }),
        ("BEGIN:A\n", ParseError::End { line: 2, expected: "A".into() }),
        ("END:A", ParseError::Outside { line: 1 }),
        ("BEGIN:A\nno colon\nEND:A", ParseError::Line { line: 2 }),
    ] {
        assert_eq!(parse(bad), Err(error), "{bad}");
    }
    assert_eq!(parse(&"BEGIN:A\n".repeat(9)), Err(ParseError::TooLarge));
    assert_eq!(parse(&format!("BEGIN:A\n{}END:A", "B:\n".repeat(MAX_LINES))), Err(ParseError::TooLarge));
}

#[test]
fn what_is_written_is_folded_and_reads_the_same() {
    let value = "\u{1f600}\u{fc}x ".repeat(40);
    let line = format!("SUMMARY;X=\"a:b\":{value}");
    let mut writer = Writer::default();
    writer.property(&property(&line).unwrap());
    let text = writer.finish();
    assert!(text.split("\r\n").all(|line| line.len() <= 75), "{text}");
    assert_eq!(decode(text.as_bytes()).unwrap().trim_end_matches("\r\n"), line);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(text) = decode(&bytes) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn no_lines_make_the_parser_panic(lines in proptest::collection::vec("(BEGIN:A|END:A|[A-Z]?[;:=\",^\\\\]{0,5}.{0,8})", 0..12)) {
        let text = lines.join("\n");
        if let Ok(parsed) = parse(&text) {
            let mut writer = Writer::default();
            parsed.iter().for_each(|component| writer.component(component));
            let again = writer.finish();
            let decoded = decode(again.as_bytes()).unwrap();
            prop_assert_eq!(parse(&decoded).unwrap(), parsed);
        }
    }

    /// On lines without what `ical` gets wrong, both parsers see the same.
    #[test]
    fn the_ical_crate_agrees_where_it_is_right(
        name in "[A-Z][A-Z0-9-]{0,8}",
        parameters in proptest::collection::vec(("[A-Z]{1,5}", proptest::collection::vec("([a-z0-9 /]{1,6}|\"[a-z:;, ]{1,6}\")", 1..5)), 0..4),
        value in "([a-z][ -~]{0,20})?",
    ) {
        let mut line = name;
        for (name, values) in &parameters {
            line.push_str(&format!(";{name}={}", values.join(",")));
        }
        line.push(':');
        line.push_str(value.trim_end());
        let theirs = ical::PropertyParser::from_reader(line.as_bytes()).next().unwrap().unwrap();
        let ours = property(&line).unwrap();
        prop_assert_eq!(theirs.name, ours.name);
        prop_assert_eq!(theirs.value.unwrap_or_default(), ours.value);
        let ours: Vec<(String, Vec<String>)> = ours
            .parameters()
            .map(|p| (p.name.to_owned(), p.values().map(Cow::into_owned).collect()))
            .collect();
        prop_assert_eq!(theirs.params.unwrap_or_default(), ours);
    }
}
