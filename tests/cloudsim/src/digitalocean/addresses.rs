//! The addresses droplets get. A freed address is the first to be given out again, as a stranger would get it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A block of consecutive IPv4 addresses.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: u32,
    count: u32,
}

impl Block {
    const fn new(first: [u8; 4], count: u32) -> Self {
        Self { first: u32::from_be_bytes(first), count }
    }
}

/// The documentation networks, then the benchmarking network: none of them is routed on the Internet.
const PUBLIC: &[Block] = &[
    Block::new([203, 0, 113, 1], 254),
    Block::new([198, 51, 100, 1], 254),
    Block::new([192, 0, 2, 1], 254),
    Block::new([198, 18, 0, 1], 0x0001_fffe),
];
const PRIVATE: &[Block] = &[Block::new([10, 116, 0, 2], 0x0007_fffc)];

/// The free addresses of one kind.
#[derive(Debug)]
pub(super) struct Pool {
    blocks: Vec<Block>,
    /// How many addresses were ever taken from the blocks.
    opened: u32,
    freed: BTreeSet<Ipv4Addr>,
}

impl Pool {
    /// Public addresses: 203.0.113.0/24, 198.51.100.0/24, 192.0.2.0/24, then 198.18.0.0/15.
    pub(super) fn public() -> Self {
        Self::of(PUBLIC)
    }

    /// Private addresses: 10.116.0.0 onwards.
    pub(super) fn private() -> Self {
        Self::of(PRIVATE)
    }

    /// `count` addresses from `first` on.
    pub(super) fn of_network(first: Ipv4Addr, count: u32) -> Self {
        Self::of(&[Block::new(first.octets(), count)])
    }

    fn of(blocks: &[Block]) -> Self {
        Self { blocks: blocks.to_vec(), opened: 0, freed: BTreeSet::new() }
    }

    /// The lowest freed address, else the next unused one; `None` once all are in use.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        if let Some(address) = self.freed.pop_first() {
            return Some(address);
        }
        let mut index = self.opened;
        for block in &self.blocks {
            if index < block.count {
                self.opened += 1;
                return Some(Ipv4Addr::from(block.first + index));
            }
            index -= block.count;
        }
        None
    }

    /// Gives an address back. One that did not come from here is ignored.
    pub(super) fn give_back(&mut self, address: Option<Ipv4Addr>) {
        let is_ours = |address: &Ipv4Addr| {
            let offsets = self.blocks.iter().map(|block| (u32::from(*address).checked_sub(block.first), block.count));
            offsets.into_iter().any(|(offset, count)| offset.is_some_and(|offset| offset < count))
        };
        self.freed.extend(address.filter(is_ours));
    }
}
