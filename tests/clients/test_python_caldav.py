"""python-caldav: discovery, calendars, searches over recurrences, synchronisation."""

from datetime import datetime, timezone

import caldav
import pytest
from samples import EVENTS


@pytest.fixture
def principal(account):
    with caldav.DAVClient(
        url=account.url + "/", username=account.user, password=account.password, ssl_verify_cert=False
    ) as client:
        yield client.principal()


@pytest.fixture
def calendar(principal):
    for old in principal.calendars():
        if old.get_display_name() == "From python-caldav":
            old.delete()
    return principal.make_calendar(name="From python-caldav", cal_id="python-caldav")


def test_calendars_come_and_go(principal, calendar):
    assert "From python-caldav" in [found.get_display_name() for found in principal.calendars()]
    calendar.delete()
    assert "From python-caldav" not in [found.get_display_name() for found in principal.calendars()]


def test_events_are_found_by_time(calendar):
    for name in ("plain", "recurring", "alarms"):
        calendar.save_event(EVENTS[name].decode())
    day = lambda month, day, hour=0: datetime(2026, month, day, hour, tzinfo=timezone.utc)  # noqa: E731
    found = lambda start, end: sorted(  # noqa: E731
        event.icalendar_component["uid"] for event in calendar.search(start=start, end=end, event=True, expand=False)
    )
    assert found(day(3, 2, 8), day(3, 2, 10)) == ["plain@skerry", "recurring@skerry"]
    assert found(day(3, 2, 9), day(3, 2, 10)) == ["plain@skerry"]
    assert found(day(1, 12, 7), day(1, 12, 10)) == [], "an excluded date"
    assert found(day(1, 14, 7), day(1, 14, 10)) == [], "moved away from here"
    assert found(day(1, 14, 13), day(1, 14, 14)) == ["recurring@skerry"], "moved to here"
    assert found(day(4, 1), day(4, 2)) == ["alarms@skerry", "recurring@skerry"]
    expanded = calendar.search(start=day(1, 5), end=day(1, 20), event=True, expand=True)
    starts = sorted(event.icalendar_component["dtstart"].dt.astimezone(timezone.utc) for event in expanded)
    assert starts == [day(1, 5, 8), day(1, 7, 8), day(1, 14, 13), day(1, 19, 8)]


def test_to_dos(calendar):
    calendar.save_todo(EVENTS["todo"].decode())
    assert [todo.icalendar_component["summary"] for todo in calendar.todos()] == ["To do"]
    todo = calendar.todos()[0]
    todo.complete()
    assert calendar.todos() == []


def test_synchronisation(calendar):
    calendar.save_event(EVENTS["plain"].decode())
    objects = calendar.objects_by_sync_token(load_objects=True)
    assert len(list(objects)) == 1
    event = calendar.save_event(EVENTS["quoted"].decode())
    calendar.event_by_uid("plain@skerry").delete()
    changed, deleted = objects.sync()
    assert [len(list(changed)), len(list(deleted))] == [1, 1]
    assert calendar.event_by_uid("quoted@skerry").data.strip() == event.data.strip()


def test_an_event_is_changed(calendar):
    event = calendar.save_event(EVENTS["plain"].decode())
    with event.edit_icalendar_component() if hasattr(event, "edit_icalendar_component") else _edit(event) as component:
        component["summary"] = "Changed"
    event.save()
    assert calendar.event_by_uid("plain@skerry").icalendar_component["summary"] == "Changed"


class _edit:  # noqa: N801
    """What later versions of the library offer as a method."""

    def __init__(self, event):
        self.event = event

    def __enter__(self):
        return self.event.icalendar_component

    def __exit__(self, *_):
        return False
