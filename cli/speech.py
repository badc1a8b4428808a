"""What devices of each dialect publish, topic and payload, as real ones do. Pure.

zigbee2mqtt says everything of a device in one payload, with `last_seen`. Tasmota says its sensors, with local time and
no zone, and every tenth time its own state. Every other Shelly is of the first generation, which has a topic for each
number and text for a relay; the others send notifications.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

Message = tuple[str, bytes]


class Spoken(NamedTuple):
    """One reading of one device, about to be said."""

    device: str
    number: int  # of the device, from 0
    kind: str  # what it measures
    value: str  # a JSON number
    due: int  # ns
    turn: int  # how many readings the device has said


def _zigbee2mqtt(say: Spoken) -> Message:
    last_seen = _text(say.due, "milliseconds") + "Z"
    payload = (
        f'{{"battery":{100 - say.number % 40},"{say.kind}":{say.value},"last_seen":"{last_seen}",'
        f'"linkquality":{80 + say.turn % 60},"voltage":{3000 - say.number % 200}}}'
    )
    return f"zigbee2mqtt/{say.device}", payload.encode()


def _tasmota(say: Spoken) -> Message:
    time = _text(say.due, "seconds")
    if say.turn % 10 == 0:
        wifi = f'{{"AP":1,"SSId":"home","Channel":7,"RSSI":{40 + say.turn % 20},"Signal":-77,"LinkCount":1}}'
        state = f'{{"Time":"{time}","UptimeSec":{say.turn},"Heap":26,"LoadAvg":19,"POWER":"ON","Wifi":{wifi}}}'
        return f"tele/{say.device}/STATE", state.encode()
    if "temperature" in say.kind:
        sensor = f'"DS18B20":{{"Id":"0113{say.number:08X}","Temperature":{say.value}}},"TempUnit":"C"'
    else:
        total = f'"TotalStartTime":"2025-01-15T04:12:42","Total":{say.turn / 1000:.3f}'
        sensor = f'"ENERGY":{{{total},"Power":{say.value},"Voltage":{228 + say.turn % 5}}}'
    return f"tele/{say.device}/SENSOR", f'{{"Time":"{time}",{sensor}}}'.encode()


def _shelly(say: Spoken) -> Message:
    return _first_shelly(say) if say.number % 2 == 0 else _later_shelly(say)


def _first_shelly(say: Spoken) -> Message:
    if "temperature" in say.kind:
        said = [("sensor/temperature", say.value), ("sensor/battery", str(100 - say.turn % 40))]
    else:
        said = [("relay/0/power", say.value), ("relay/0/energy", str(say.turn * 7)), ("relay/0", "on")]
    topic, payload = said[say.turn % len(said)]
    return f"shellies/{say.device}/{topic}", payload.encode()


def _later_shelly(say: Spoken) -> Message:
    if "temperature" in say.kind:
        status = f'"temperature:0":{{"id":0,"tC":{say.value}}}'
    else:
        energy = (
            f'{{"total":{say.turn / 10:.3f},"by_minute":[0.0,0.0,0.0],"minute_ts":{say.due // 60_000_000_000 * 60}}}'
        )
        status = f'"switch:0":{{"id":0,"apower":{say.value},"aenergy":{energy}}}'
    seconds = f"{say.due // 10**9}.{say.due // 10**7 % 100:02}"
    frame = (
        f'{{"src":"{say.device}","dst":"{say.device}/events","method":"NotifyStatus",'
        f'"params":{{"ts":{seconds},{status}}}}}'
    )
    return f"{say.device}/events/rpc", frame.encode()


def _text(ns: int, precision: str) -> str:
    seconds, rest = divmod(ns, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000, tzinfo=None)
    return moment.isoformat(timespec=precision)


SPEAK: dict[str, Callable[[Spoken], Message]] = {
    "zigbee2mqtt": _zigbee2mqtt,
    "tasmota": _tasmota,
    "shelly": _shelly,
}
"""By dialect; JSON of our own is said by `devices`."""
