#!/usr/bin/env python3
"""Writes rules.txt: what python-dateutil (2.9.0) makes of recurrence rules.

Each line is DTSTART, RRULE and the local times, separated by spaces; `...` at the end where there are more.
The examples of RFC 5545 clause 3.8.5.3 come first, then rules made at random from a fixed seed.

Left out is where dateutil departs from the RFC: BYWEEKNO without BYDAY (it takes every day of the week) and BYSETPOS
in a weekly rule that does not start on the first day of a week (its first week is cut at DTSTART).
"""
import datetime
import itertools
import pathlib
import random
import signal

from dateutil.rrule import rrulestr

MOST = 30
RFC = """
19970902T090000 FREQ=DAILY;COUNT=10
19970902T090000 FREQ=DAILY;UNTIL=19971224T000000
19970902T090000 FREQ=DAILY;INTERVAL=2
19970902T090000 FREQ=DAILY;INTERVAL=10;COUNT=5
19980101T090000 FREQ=YEARLY;UNTIL=20000131T140000;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA
19980101T090000 FREQ=DAILY;UNTIL=20000131T140000;BYMONTH=1
19970902T090000 FREQ=WEEKLY;COUNT=10
19970902T090000 FREQ=WEEKLY;UNTIL=19971224T000000
19970902T090000 FREQ=WEEKLY;INTERVAL=2;WKST=SU
19970902T090000 FREQ=WEEKLY;UNTIL=19971007T000000;WKST=SU;BYDAY=TU,TH
19970902T090000 FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH
19970901T090000 FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000;WKST=SU;BYDAY=MO,WE,FR
19970902T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH
19970905T090000 FREQ=MONTHLY;COUNT=10;BYDAY=1FR
19970905T090000 FREQ=MONTHLY;UNTIL=19971224T000000;BYDAY=1FR
19970907T090000 FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU
19970922T090000 FREQ=MONTHLY;COUNT=6;BYDAY=-2MO
19970928T090000 FREQ=MONTHLY;BYMONTHDAY=-3
19970902T090000 FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15
19970930T090000 FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1
19970910T090000 FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15
19970902T090000 FREQ=MONTHLY;INTERVAL=2;BYDAY=TU
19970610T090000 FREQ=YEARLY;COUNT=10;BYMONTH=6,7
19970310T090000 FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3
19970101T090000 FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200
19970519T090000 FREQ=YEARLY;BYDAY=20MO
19970512T090000 FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO
19970313T090000 FREQ=YEARLY;BYMONTH=3;BYDAY=TH
19970605T090000 FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8
19970902T090000 FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13
19970913T090000 FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13
19961105T090000 FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8
19970904T090000 FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3
19970929T090000 FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2
19970902T090000 FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000
19970902T090000 FREQ=MINUTELY;INTERVAL=15;COUNT=6
19970902T090000 FREQ=MINUTELY;INTERVAL=90;COUNT=4
19970902T090000 FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40
19970902T090000 FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16
19970805T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO
19970805T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU
20070115T090000 FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5
20240131T080000 FREQ=MONTHLY;COUNT=8
20240229T080000 FREQ=YEARLY;COUNT=5
"""
DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def some(choice, values, most):
    return choice.sample(values, choice.randint(1, most))


def both(most):
    return [*range(-most, 0), *range(1, most + 1)]


def at_random(choice):
    frequency = choice.choice(["YEARLY"] * 4 + ["MONTHLY"] * 4 + ["WEEKLY"] * 3 + ["DAILY"] * 2
                              + ["HOURLY", "MINUTELY", "SECONDLY"])
    parts = {"FREQ": frequency}
    start = datetime.datetime(choice.randint(1950, 2040), choice.randint(1, 12), choice.randint(1, 28),
                              choice.randint(0, 23), choice.choice([0, 15, 30, 59]), choice.choice([0, 0, 7]))
    if choice.random() < 0.5:
        parts["INTERVAL"] = choice.choice([1, 2, 3, 4, 5, 7, 12])
    if choice.random() < 0.4:
        parts["WKST"] = choice.choice(DAYS)
    if choice.random() < 0.3:
        parts["BYMONTH"] = some(choice, range(1, 13), 4)
    if choice.random() < 0.3:
        parts["BYMONTHDAY"] = some(choice, both(31), 6)
    if choice.random() < 0.15 and frequency in ("YEARLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"):
        parts["BYYEARDAY"] = some(choice, both(366), 8)
    if choice.random() < 0.5:
        ordinals = frequency == "MONTHLY" and choice.random() < 0.6 or frequency == "YEARLY" and choice.random() < 0.4
        most = 5 if frequency == "MONTHLY" or "BYMONTH" in parts else 53
        parts["BYDAY"] = [f"{choice.choice(both(most)) if ordinals else ''}{day}" for day in some(choice, DAYS, 4)]
    if frequency == "YEARLY" and choice.random() < 0.2:
        parts["BYWEEKNO"] = some(choice, both(53), 5)
        parts["BYDAY"] = some(choice, DAYS, 3)
    if choice.random() < 0.2:
        parts["BYHOUR"] = some(choice, range(24), 4)
    if choice.random() < 0.15:
        parts["BYMINUTE"] = some(choice, range(60), 3)
    if choice.random() < 0.1:
        parts["BYSECOND"] = some(choice, range(60), 3)
    if choice.random() < 0.3 and any(name.startswith("BY") for name in parts):
        parts["BYSETPOS"] = some(choice, both(9), 3)
        if frequency == "WEEKLY":
            start -= datetime.timedelta(days=(start.weekday() - DAYS.index(parts.get("WKST", "MO"))) % 7)
    span = {"YEARLY": 40 * 365, "MONTHLY": 3000, "WEEKLY": 1500, "DAILY": 800, "HOURLY": 400, "MINUTELY": 60,
            "SECONDLY": 20}[frequency]
    end = start + datetime.timedelta(days=choice.randint(1, span))
    if choice.random() < 0.3:
        parts["COUNT"] = choice.randint(1, 25)
    else:
        parts["UNTIL"] = end.strftime("%Y%m%dT%H%M%S")
    names = list(parts)
    choice.shuffle(names)
    text = ";".join(
        f"{name}={','.join(map(str, parts[name])) if isinstance(parts[name], list) else parts[name]}"
        for name in names)
    return f"{start.strftime('%Y%m%dT%H%M%S')} {text}"


def too_long(*_):
    raise TimeoutError


def expand(line):
    start, rule = line.split()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(2)
    try:
        times = list(itertools.islice(
            rrulestr(rule, dtstart=datetime.datetime.strptime(start, "%Y%m%dT%H%M%S")), MOST + 1))
    except (ValueError, TimeoutError):
        return None
    finally:
        signal.alarm(0)
    words = [time.strftime("%Y%m%dT%H%M%S") for time in times[:MOST]]
    return " ".join([line, *words, *(["..."] if len(times) > MOST else [])])


def main():
    choice = random.Random(5545)
    lines = [expand(line) for line in RFC.strip().splitlines()]
    while len(lines) < 800:
        line = expand(at_random(choice))
        if line is not None:
            lines.append(line)
    pathlib.Path(__file__).with_name("rules.txt").write_text("\n".join(lines) + "\n", encoding="ascii")


main()
