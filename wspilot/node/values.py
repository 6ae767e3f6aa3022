"""Frozen dataclasses at a tenth of their import cost.

Every frozen `dataclasses.dataclass` costs 0.5 to 1.5 ms when its module is imported (it compiles
six methods as text), and a pilot needs some fifty: a third of the time from its exec to `started`
(DESIGN.md section 10). These look the same to the type checker and behave the same where node code
uses them: keyword or positional, defaults, `default_factory`, equality, hash, repr, `replace`,
`__post_init__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    class _Factory:
        def __init__(self, make: Any) -> None:
            self.make = make

    def field(*, default_factory: Any) -> Any:
        """A default that is made anew for each object."""
        return _Factory(default_factory)

    def dataclass(*, frozen: bool) -> Any:
        """A class decorator; always frozen."""
        assert frozen
        return _complete

    def replace(value: Any, **change: Any) -> Any:
        """The same with other fields."""
        return type(value)(**{**value.__dict__, **change})

    def _complete(cls: type) -> type:
        names = tuple(getattr(cls, "__annotations__", {}))  # 3.9: none is no attribute
        own = vars(cls)
        plain = {name: own[name] for name in names if name in own}
        makers = {name: one.make for name, one in plain.items() if isinstance(one, _Factory)}
        for name in makers:
            del plain[name]
        check = own.get("__post_init__")

        def __init__(self: Any, *args: Any, **given: Any) -> None:
            if len(args) > len(names):
                raise TypeError(f"{cls.__name__} takes at most {len(names)} values")
            values = {**plain, **dict(zip(names, args)), **given}
            for name, make in makers.items():
                if name not in values:
                    values[name] = make()
            if len(values) != len(names) or any(name not in values for name in names):
                wrong = sorted(set(names) ^ set(values))
                raise TypeError(f"{cls.__name__}: missing or unknown: {', '.join(wrong)}")
            self.__dict__.update((name, values[name]) for name in names)
            if check:
                check(self)

        cls.__init__ = __init__
        cls.__setattr__ = _refuse
        cls.__delattr__ = _refuse
        cls.__eq__ = _equal
        cls.__hash__ = _hash
        cls.__repr__ = _words
        return cls

    def _refuse(self: Any, name: str, value: Any = None) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be changed")

    def _equal(self: Any, other: Any) -> Any:
        return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

    def _hash(self: Any) -> int:
        return hash(tuple(self.__dict__.values()))

    def _words(self: Any) -> str:
        parts = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({parts})"
