//! The superblock: what makes a block device a Skerry storage, and how long the database file on it is.
//!
//! Two copies lie in the first two blocks of the device and are written alternately: generation `n` to copy `n % 2`. A
//! write that tears loses the copy being written, never the one before it. All fields stand in the first 512 bytes, the
//! smallest unit that a disk writes whole.
//!
//! | offset | length | field (integers are little-endian) |
//! |---|---|---|
//! | 0 | 16 | magic |
//! | 16 | 4 | version of this layout |
//! | 20 | 4 | CRC-32 of bytes 0..512 with this field zero |
//! | 24 | 8 | content: the format of the data area |
//! | 32 | 8 | generation |
//! | 40 | 8 | length of the database file, in bytes |
//! | 48 | 8 | capacity of the device when this was written, in bytes |
//! | 56 | 8 | zero |
//! | 64 | 64 | name of the service, UTF-8, padded with zeros |

use super::overlay::BLOCK_SIZE;

/// Marks a Skerry storage.
use super::error::OpenError;

const MAGIC: &[u8; 16] = b"skerry storage\r\n";
/// The layout described above.
const VERSION: u32 = 1;
/// What lies in the data area: redb's file format 3.
const CONTENT: &[u8; 8] = b"redb 3\0\0";
/// Bytes of a copy that are not zero.
const USED: usize = 512;
/// Longest name of a service, in bytes.
pub(super) const NAME_LIMIT: usize = 64;
/// Where the database file begins on the device: room for the two copies and for what later versions need to put
/// beside them, and aligned to every erase block and stripe that matters.
pub(super) const DATA_OFFSET: u64 = 64 * 1024;
/// Where the two copies are.
pub(super) const COPY_OFFSETS: [u64; 2] = [0, BLOCK_SIZE as u64];

/// What is known of the storage beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// The service that formatted the device.
    pub(super) service: String,
    /// Counts the writes of the superblock.
    pub(super) generation: u64,
    /// Length of the database file in bytes.
    pub(super) length: u64,
    /// Capacity of the device in bytes, to notice one that has shrunk.
    pub(super) capacity: u64,
}

/// What is wrong with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It does not begin with the magic: this is something else.
    Foreign,
    /// It does, but its checksum or its content is wrong.
    Damaged,
    /// It is of a layout that this version does not know.
    Version(u32),
}

impl Superblock {
    /// Where this generation is written.
    pub(super) fn offset(&self) -> u64 {
        COPY_OFFSETS[usize::from(!self.generation.is_multiple_of(2))]
    }

    /// The copy as it lies on the device, a whole block.
    ///
    /// # Panics
    /// If the service's name is longer than [`NAME_LIMIT`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_SIZE];
        block[..16].copy_from_slice(MAGIC);
        block[16..20].copy_from_slice(&VERSION.to_le_bytes());
        block[24..32].copy_from_slice(CONTENT);
        block[32..40].copy_from_slice(&self.generation.to_le_bytes());
        block[40..48].copy_from_slice(&self.length.to_le_bytes());
        block[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        block[64..64 + NAME_LIMIT][..self.service.len()].copy_from_slice(self.service.as_bytes());
        let checksum = crc32(&block[..USED]);
        block[20..24].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads a copy.
    pub(super) fn decode(block: &[u8]) -> Result<Self, Invalid> {
        let used = block.get(..USED).ok_or(Invalid::Foreign)?;
        if &used[..16] != MAGIC {
            return Err(Invalid::Foreign);
        }
        let mut zeroed = used.to_vec();
        zeroed[20..24].fill(0);
        if crc32(&zeroed).to_le_bytes() != used[20..24] {
            return Err(Invalid::Damaged);
        }
        let version = u32::from_le_bytes([used[16], used[17], used[18], used[19]]);
        if version != VERSION || &used[24..32] != CONTENT {
            return Err(Invalid::Version(version));
        }
        let name = &used[64..64 + NAME_LIMIT];
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LIMIT)];
        Ok(Self {
            service: str::from_utf8(name).map_err(|_| Invalid::Damaged)?.to_owned(),
            generation: integer(used, 32),
            length: integer(used, 40),
            capacity: integer(used, 48),
        })
    }

    /// Whether a device of `capacity` bytes can hold what this says. The checksum proves only that the block was written
    /// whole, not by whom: a length that no device bears out would have the database make tables for it.
    ///
    /// # Errors
    /// [`OpenError::Shrunk`] or [`OpenError::DamagedSuperblock`].
    pub(super) fn check_against(&self, capacity: u64) -> Result<(), OpenError> {
        if self.capacity > capacity {
            return Err(OpenError::Shrunk { capacity, needed: self.capacity });
        }
        // A full device's file may be longer than the device in name, by what redb grew it at once: it doubles at most.
        if self.length > capacity.saturating_mul(2) {
            return Err(OpenError::DamagedSuperblock);
        }
        Ok(())
    }

    /// The copy that counts: the sound one, and of two the newer. If neither is sound, what is wrong with the device:
    /// a version unknown or damage in one copy tells more than the other's being foreign.
    pub(super) fn choose(copies: [Result<Self, Invalid>; 2]) -> Result<Self, Invalid> {
        match copies {
            [Ok(first), Ok(second)] => Ok(if first.generation > second.generation { first } else { second }),
            [Ok(sound), Err(_)] | [Err(_), Ok(sound)] => Ok(sound),
            [Err(Invalid::Foreign), Err(reason)] | [Err(reason), Err(_)] => Err(reason),
        }
    }
}

fn integer(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

/// CRC-32 as in IEEE 802.3, bit by bit: it runs over 512 bytes, a few times in the life of an image.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(generation: u64) -> Superblock {
        Superblock { service: "caldav".to_owned(), generation, length: 73_728, capacity: 1 << 20 }
    }

    #[test]
    fn a_length_that_the_device_does_not_bear_out_is_damage() {
        let superblock =
            |length| Superblock { service: "caldav".to_owned(), generation: 1, length, capacity: 1 << 20 };
        assert_eq!(superblock(2 << 20).check_against(1 << 20), Ok(()));
        for length in [(2 << 20) + 1, 1 << 40, u64::MAX] {
            assert_eq!(superblock(length).check_against(1 << 20), Err(OpenError::DamagedSuperblock));
        }
        let needed = 1 << 20;
        assert_eq!(superblock(0).check_against(4096), Err(OpenError::Shrunk { capacity: 4096, needed }));
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        assert_eq!(Superblock::decode(&superblock(7).encode()), Ok(superblock(7)));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let sound = superblock(7).encode();
        for bit in 0..USED * 8 {
            let mut block = sound.clone();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&block).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_newer_sound_copy_counts() {
        let both = [Ok(superblock(8)), Ok(superblock(7))];
        assert_eq!(Superblock::choose(both).map(|chosen| chosen.generation), Ok(8));
        let torn = [Err(Invalid::Damaged), Ok(superblock(7))];
        assert_eq!(Superblock::choose(torn).map(|chosen| chosen.generation), Ok(7));
        assert_eq!(
            Superblock::choose([Err(Invalid::Foreign), Err(Invalid::Version(9))]),
            Err(Invalid::Version(9))
        );
    }

    #[test]
    fn consecutive_generations_lie_apart() {
        assert_ne!(superblock(7).offset(), superblock(8).offset());
    }
}
