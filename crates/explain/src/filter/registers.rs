//! The registers that a rule works with. Of each bit it is known whether it is known.

use hopyard_net::Comparison;

/// The size of a register.
const REGISTER_BYTES: usize = 4;
/// Room for all of them.
const BYTES: usize = REGISTER_BYTES * 32;

/// Does something hold?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// It depends on what is not known.
    Maybe,
}

impl Holds {
    pub(super) fn not(self) -> Self {
        match self {
            Holds::Yes => Holds::No,
            Holds::No => Holds::Yes,
            Holds::Maybe => Holds::Maybe,
        }
    }

    pub(super) fn invert(self, if_so: bool) -> Self {
        if if_so { self.not() } else { self }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Holds::Yes } else { Holds::No }
    }
}

/// There is no such register, or it has no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRegister;

/// A byte, and which of its bits are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Byte {
    pub(super) value: u8,
    pub(super) known: u8,
}

impl From<Option<u8>> for Byte {
    fn from(byte: Option<u8>) -> Self {
        byte.map_or(Byte::default(), Byte::of)
    }
}

impl Byte {
    pub(super) fn of(value: u8) -> Self {
        Byte { value, known: u8::MAX }
    }
}

/// All registers.
#[derive(Clone, Debug)]
pub(super) struct Registers([Byte; BYTES]);

impl Default for Registers {
    fn default() -> Self {
        Registers([Byte::of(0); BYTES])
    }
}

impl Registers {
    /// Puts bytes into a register. What is behind them up to the next one becomes zero.
    pub(super) fn put(&mut self, register: u32, bytes: &[Byte]) -> Result<(), NoRegister> {
        let start = start(register)?;
        let end = start + bytes.len().next_multiple_of(REGISTER_BYTES);
        let room = self.0.get_mut(start..end).ok_or(NoRegister)?;
        room.fill(Byte::of(0));
        room[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// The same, all known.
    pub(super) fn put_known(&mut self, register: u32, bytes: &[u8]) -> Result<(), NoRegister> {
        let bytes: Vec<Byte> = bytes.iter().copied().map(Byte::of).collect();
        self.put(register, &bytes)
    }

    /// So many bytes from a register on.
    pub(super) fn get(&self, register: u32, length: usize) -> Result<&[Byte], NoRegister> {
        let start = start(register)?;
        self.0.get(start..start.saturating_add(length)).ok_or(NoRegister)
    }

    /// The same, if all of it is known.
    pub(super) fn known(&self, register: u32, length: usize) -> Result<Option<Vec<u8>>, NoRegister> {
        let bytes = self.get(register, length)?;
        Ok(bytes.iter().map(|byte| (byte.known == u8::MAX).then_some(byte.value)).collect())
    }

    /// How a register compares with bytes, as `memcmp` has it.
    pub(super) fn compare(&self, register: u32, how: Comparison, with: &[u8]) -> Result<Holds, NoRegister> {
        let bytes = self.get(register, with.len())?;
        let differs = bytes.iter().zip(with).any(|(byte, with)| (byte.value ^ with) & byte.known != 0);
        let known = self.known(register, with.len())?;
        Ok(match (how, known) {
            (Comparison::Equal, _) if differs => Holds::No,
            (Comparison::Unequal, _) if differs => Holds::Yes,
            (_, None) => Holds::Maybe,
            (how, Some(known)) => {
                let order = known.as_slice().cmp(with);
                Holds::from(match how {
                    Comparison::Equal => order.is_eq(),
                    Comparison::Unequal => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
        })
    }

    /// `to = from & mask ^ xor`.
    pub(super) fn mask(&mut self, from: u32, to: u32, mask: &[u8], xor: &[u8]) -> Result<(), NoRegister> {
        let bytes = self.get(from, mask.len())?;
        let xor = xor.iter().copied().chain(std::iter::repeat(0));
        let masked = bytes.iter().zip(mask).zip(xor).map(|((byte, mask), xor)| Byte {
            value: (byte.value & mask) ^ xor,
            // A bit that is taken away is known to be none.
            known: byte.known | !mask,
        });
        let masked: Vec<Byte> = masked.collect();
        self.put(to, &masked)
    }

    /// Turns numbers of so many bytes round.
    pub(super) fn turn(&mut self, from: u32, to: u32, size: usize, length: usize) -> Result<(), NoRegister> {
        let mut bytes = self.get(from, length)?.to_vec();
        // On a machine whose order is the network's there is nothing to do.
        if cfg!(target_endian = "little") && size > 0 {
            bytes.chunks_mut(size).for_each(<[Byte]>::reverse);
        }
        self.put(to, &bytes)
    }
}

/// Numbers 1 to 4 are the old ones of 16 bytes, from 8 on those of four bytes, in the same place
/// (linux/netfilter/nf_tables.h).
fn start(register: u32) -> Result<usize, NoRegister> {
    const OLD_BYTES: usize = 16;
    match register as usize {
        0 => Err(NoRegister),
        old @ 1..=4 => Ok((old - 1) * OLD_BYTES),
        new => new.checked_sub(8).and_then(|new| new.checked_mul(REGISTER_BYTES)).ok_or(NoRegister),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

    use super::*;

    #[test]
    fn a_bit_that_is_masked_away_is_known() {
        let mut all = Registers::default();
        all.put(1, &[Byte { value: 0b1010_0000, known: 0b1111_0000 }]).unwrap();
        assert_eq!(all.compare(1, Comparison::Equal, &[0b1010_0001]).unwrap(), Holds::Maybe);
        assert_eq!(all.compare(1, Comparison::Equal, &[0b0010_0001]).unwrap(), Holds::No);
        all.mask(1, 1, &[0b1100_0000], &[0]).unwrap();
        assert_eq!(all.compare(1, Comparison::Equal, &[0b1000_0000]).unwrap(), Holds::Yes);
    }

    #[test]
    fn the_old_registers_and_the_new_ones_are_the_same_memory() {
        let mut all = Registers::default();
        all.put_known(1, &[1, 2, 3, 4]).unwrap();
        all.put_known(9, &[5, 6]).unwrap();
        assert_eq!(all.known(8, 8).unwrap(), Some(vec![1, 2, 3, 4, 5, 6, 0, 0]));
        assert!(all.put_known(0, &[0]).is_err() && all.get(39, 8).is_err() && all.get(5, 4).is_err());
        assert!(all.get(u32::MAX, usize::MAX).is_err());
    }

    #[test]
    fn numbers_are_turned_one_by_one() {
        let mut all = Registers::default();
        all.put_known(1, &[1, 2, 3, 4]).unwrap();
        all.turn(1, 1, 2, 4).unwrap();
        let turned = if cfg!(target_endian = "little") { [2, 1, 4, 3] } else { [1, 2, 3, 4] };
        assert_eq!(all.known(1, 4).unwrap(), Some(turned.to_vec()));
    }
}
