"""Calendar objects and cards that clients really write, and that servers really damage."""


def crlf(text):
    return text.strip().replace("\n", "\r\n").encode() + b"\r\n"


def calendar(*components, zone=""):
    body = "\n".join(component.strip() for component in components)
    return crlf(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//skerry//tests//EN\n{zone}{body}\nEND:VCALENDAR")


BERLIN = """BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:DAYLIGHT
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
TZNAME:CEST
DTSTART:19700329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
BEGIN:STANDARD
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
TZNAME:CET
DTSTART:19701025T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
END:VTIMEZONE
"""

# An umlaut whose two bytes a fold parts (RFC 5545, 3.1 allows it), which a reader by lines of text cannot read.
SPLIT_UTF8 = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//skerry//tests//EN\r\nBEGIN:VEVENT\r\nUID:split@skerry\r\n"
    b"DTSTAMP:20260101T000000Z\r\nDTSTART:20260301T100000Z\r\n"
    b"SUMMARY:Fr\xc3\r\n \xbchst\xc3\xbcck mit Z\xc3\xb6e\r\n  und Kaffee\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)

EVENTS = {
    "plain": calendar("""
BEGIN:VEVENT
UID:plain@skerry
DTSTAMP:20260101T000000Z
DTSTART:20260302T090000Z
DTEND:20260302T100000Z
SUMMARY:Plain
END:VEVENT"""),
    "recurring": calendar("""
BEGIN:VEVENT
UID:recurring@skerry
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260105T090000
DTEND;TZID=Europe/Berlin:20260105T093000
RRULE:FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20261230T080000Z
EXDATE;TZID=Europe/Berlin:20260112T090000
SUMMARY:Stand-up
END:VEVENT
BEGIN:VEVENT
UID:recurring@skerry
RECURRENCE-ID;TZID=Europe/Berlin:20260114T090000
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260114T140000
DTEND;TZID=Europe/Berlin:20260114T143000
SUMMARY:Stand-up\\, moved
END:VEVENT""", zone=BERLIN),
    "alarms": calendar("""
BEGIN:VEVENT
UID:alarms@skerry
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260401
DTEND;VALUE=DATE:20260402
SUMMARY:Alarms
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-PT15M
DESCRIPTION:In a quarter of an hour
END:VALARM
BEGIN:VALARM
ACTION:AUDIO
TRIGGER;VALUE=DATE-TIME:20260401T060000Z
REPEAT:3
DURATION:PT5M
END:VALARM
END:VEVENT"""),
    "quoted": calendar("""
BEGIN:VEVENT
UID:quoted@skerry
DTSTAMP:20260101T000000Z
DTSTART:20260302T090000Z
ORGANIZER;CN="Doe, John: the \\ one";SENT-BY="mailto:jane@example.org":mailto:john@example.org
ATTENDEE;CN="Ünal; Ayşe";MEMBER="mailto:a@example.org","mailto:b@example.org";RSVP=TRUE:mailto:ayse@example.org
SUMMARY:Semicolons\\; commas\\, and a backslash \\\\ here
X-LONG:0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890
END:VEVENT"""),
    "unknown": calendar("""
BEGIN:VEVENT
UID:unknown@skerry
DTSTAMP:20260101T000000Z
DTSTART:20260302T090000Z
DURATION:PT1H
SUMMARY:Unknown components
BEGIN:PARTICIPANT
UID:em9lQGZvb2GFtcGxlLmNvbQ
PARTICIPANT-TYPE:ACTIVE
BEGIN:VLOCATION
UID:123456-abcdef-98765432
NAME:The venue
END:VLOCATION
END:PARTICIPANT
BEGIN:X-VENDOR-THING
X-A;X-B=1:value
END:X-VENDOR-THING
END:VEVENT"""),
    "lower": calendar("""
begin:vevent
uid:lower@skerry
dtstamp:20260101T000000Z
dtstart;value=date:20260302
summary:lower case
end:vevent"""),
    "split": SPLIT_UTF8,
    "newlines": calendar("""
BEGIN:VEVENT
UID:newlines@skerry
DTSTAMP:20260101T000000Z
DTSTART:20260302T090000Z
SUMMARY:Lines end with LF alone
END:VEVENT""").replace(b"\r\n", b"\n"),
    "todo": calendar("""
BEGIN:VTODO
UID:todo@skerry
DTSTAMP:20260101T000000Z
DUE;TZID=Europe/Berlin:20260302T090000
SUMMARY:To do
STATUS:NEEDS-ACTION
END:VTODO""", zone=BERLIN),
}

CARDS = {
    "three": crlf("""
BEGIN:VCARD
VERSION:3.0
UID:three@skerry
FN:Zoë O'Hara
N:O'Hara;Zoë;;Dr.;
TEL;TYPE=HOME,VOICE:+49 30 123456
EMAIL;TYPE=INTERNET:zoe@example.org
item1.X-ABLABEL:_$!<HomePage>!$_
item1.URL:https://example.org/
PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRof
 Hh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL
END:VCARD"""),
    "four": crlf("""
BEGIN:VCARD
VERSION:4.0
UID:urn:uuid:4fbe8971-0bc3-424c-9c26-36c3e1eff6b1
FN;PID=1.1:J. Doe
N:Doe;J.;;;
EMAIL;PID=4.1,5.1:jdoe@example.com
KIND:individual
PHOTO:data:image/png;base64,iVBORw0KGgo=
ANNIVERSARY:--0412
END:VCARD"""),
}
