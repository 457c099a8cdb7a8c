//! Things by number, and events that say of which.

/// What an event is about: a kind, the number of a thing, and which of its things of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Stop,
    Lab,
    Tap,
    Names,
    Datagrams(u32),
    Listener(u32),
    Published(u32),
    Connection {
        at: u32,
        side: u8,
        generation: u16,
    },
    Flow {
        at: u32,
        generation: u16,
    },
    /// Of the gate, for requests.
    Echoes(u32),
    Echo {
        at: u32,
        generation: u16,
    },
    Visit {
        at: u32,
        generation: u16,
    },
}

impl Token {
    pub(super) fn to_number(self) -> u64 {
        let (kind, at, side, generation): (u8, u32, u8, u16) = match self {
            Token::Stop => (0, 0, 0, 0),
            Token::Lab => (1, 0, 0, 0),
            Token::Tap => (2, 0, 0, 0),
            Token::Names => (3, 0, 0, 0),
            Token::Datagrams(at) => (4, at, 0, 0),
            Token::Listener(at) => (5, at, 0, 0),
            Token::Published(at) => (6, at, 0, 0),
            Token::Connection { at, side, generation } => (7, at, side, generation),
            Token::Flow { at, generation } => (8, at, 0, generation),
            Token::Echoes(at) => (9, at, 0, 0),
            Token::Echo { at, generation } => (10, at, 0, generation),
            Token::Visit { at, generation } => (11, at, 0, generation),
        };
        u64::from(at) | u64::from(generation) << 32 | u64::from(side) << 48 | u64::from(kind) << 56
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        let [kind, side, g1, g0, at @ ..] = number.to_be_bytes();
        let (at, generation) = (u32::from_be_bytes(at), u16::from_be_bytes([g1, g0]));
        Some(match kind {
            0 => Token::Stop,
            1 => Token::Lab,
            2 => Token::Tap,
            3 => Token::Names,
            4 => Token::Datagrams(at),
            5 => Token::Listener(at),
            6 => Token::Published(at),
            7 => Token::Connection { at, side, generation },
            8 => Token::Flow { at, generation },
            9 => Token::Echoes(at),
            10 => Token::Echo { at, generation },
            11 => Token::Visit { at, generation },
            _ => return None,
        })
    }
}

/// Things by number. A number is used again, but not for what was called by it before.
pub(super) struct Slab<T> {
    slots: Vec<(u16, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// The number, and which of that number, of what is inserted next.
    pub(super) fn next(&self) -> (u32, u16) {
        match self.free.last() {
            Some(&at) => (at, self.slots.get(at as usize).map_or(0, |slot| slot.0)),
            None => (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), 0),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize].1 = Some(value);
            return at;
        }
        self.slots.push((0, Some(value)));
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.1.as_mut()
    }

    pub(super) fn is(&self, at: u32, generation: u16) -> bool {
        self.slots.get(at as usize).is_some_and(|slot| slot.0 == generation && slot.1.is_some())
    }

    /// Makes another thing of it, which has its number.
    pub(super) fn become_another(&mut self, at: u32, change: impl FnOnce(T) -> T) {
        if let Some((_, slot)) = self.slots.get_mut(at as usize) {
            *slot = slot.take().map(change);
        }
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(at);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(at, slot)| Some((at, slot.1.as_ref()?)))
    }
}
