//! What is in the file, of each owner, as far as the thread must know it without reading: no content.

use std::collections::{BTreeMap, VecDeque};

use super::Standing;

/// No owner has more than this part of the whole budget: one that floods leaves the others room.
const SHARE: u64 = 4;

/// All owners.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    owners: BTreeMap<String, Account>,
    /// Of all owners, in the file.
    bytes: u64,
}

/// One owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// In the file; none yet in a new one.
    pub(super) number: Option<i64>,
    pub(super) taken: u64,
    pub(super) next: u64,
    /// In the order of their numbers.
    pub(super) blocks: VecDeque<BlockEntry>,
    /// Kept aside since the centre refused them, the oldest first.
    pub(super) refused: VecDeque<RefusedEntry>,
    bytes: u64,
    expired: u64,
    unreadable: u64,
}

/// A block in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockEntry {
    pub(super) id: i64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) stored_s: u64,
    pub(super) bytes: u64,
}

/// A refused notice in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedEntry {
    pub(super) id: i64,
    pub(super) stored_s: u64,
    pub(super) bytes: u64,
}

impl BlockEntry {
    pub(super) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Why a block is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Taken,
    Expired,
    Unreadable,
}

impl Accounts {
    pub(super) fn of(&self, owner: &str) -> Option<&Account> {
        self.owners.get(owner)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Account)> {
        self.owners.iter()
    }

    pub(super) fn standing(&self, owner: &str) -> Standing {
        self.of(owner).map(Account::standing).unwrap_or_default()
    }

    /// Whether so many bytes more of this owner fit into a budget once all below `taken` is gone; `coming` are others that come with them.
    pub(super) fn have_room(&self, owner: &str, taken: u64, bytes: u64, coming: u64, budget: u64) -> bool {
        let account = self.of(owner);
        let freed: u64 =
            account.into_iter().flat_map(|account| account.emptied_by(taken)).map(|block| block.bytes).sum();
        let own = account.map_or(0, |account| account.bytes);
        self.bytes - freed + coming + bytes <= budget && own - freed + bytes <= budget / SHARE
    }

    /// The owner has this number in the file.
    pub(super) fn open(&mut self, owner: &str, number: i64) {
        self.owners.entry(owner.to_owned()).or_default().number = Some(number);
    }

    pub(super) fn add_block(&mut self, owner: &str, block: BlockEntry) {
        let Some(account) = self.owners.get_mut(owner) else { return };
        account.next = account.next.max(block.end());
        account.bytes += block.bytes;
        self.bytes += block.bytes;
        account.blocks.push_back(block);
    }

    pub(super) fn add_refused(&mut self, owner: &str, refused: RefusedEntry) {
        let Some(account) = self.owners.get_mut(owner) else { return };
        account.bytes += refused.bytes;
        self.bytes += refused.bytes;
        account.refused.push_back(refused);
    }

    /// The centre has taken all below this.
    pub(super) fn take(&mut self, owner: &str, taken: u64) {
        let Some(account) = self.owners.get_mut(owner) else { return };
        account.taken = account.taken.max(taken);
        account.next = account.next.max(account.taken);
    }

    /// A block is no longer in the file.
    pub(super) fn remove_block(&mut self, owner: &str, id: i64, why: Gone) {
        let Some(account) = self.owners.get_mut(owner) else { return };
        let Some(at) = account.blocks.iter().position(|block| block.id == id) else { return };
        let Some(block) = account.blocks.remove(at) else { return };
        account.bytes -= block.bytes;
        self.bytes -= block.bytes;
        let untaken = block.end().saturating_sub(block.first.max(account.taken));
        match why {
            Gone::Taken => {}
            Gone::Expired => account.expired += untaken,
            Gone::Unreadable => account.unreadable += untaken,
        }
    }

    /// The oldest refused one is no longer in the file.
    pub(super) fn remove_oldest_refused(&mut self, owner: &str) {
        let Some(account) = self.owners.get_mut(owner) else { return };
        if let Some(refused) = account.refused.pop_front() {
            account.bytes -= refused.bytes;
            self.bytes -= refused.bytes;
        }
    }

    /// The file was put aside: what it held is out of reach, and numbers go on. How many notices that are.
    pub(super) fn begin_anew(&mut self) -> u64 {
        let mut lost = 0;
        for account in self.owners.values_mut() {
            let untaken: u64 =
                account.blocks.iter().map(|block| block.end() - block.first.max(account.taken).min(block.end())).sum();
            lost += untaken + account.refused.len() as u64;
            *account = Account {
                taken: account.next,
                next: account.next,
                expired: account.expired,
                unreadable: account.unreadable + untaken,
                ..Account::default()
            };
        }
        self.bytes = 0;
        lost
    }

    pub(super) fn are_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Account {
    fn standing(&self) -> Standing {
        Standing {
            taken: self.taken,
            next: self.next,
            bytes: self.bytes,
            refused: self.refused.len() as u64,
            expired: self.expired,
            unreadable: self.unreadable,
        }
    }

    /// The blocks that hold nothing that is not taken once all below `taken` is.
    pub(super) fn emptied_by(&self, taken: u64) -> impl Iterator<Item = &BlockEntry> {
        self.blocks.iter().take_while(move |block| block.end() <= taken)
    }

    /// The block that holds this number, or the next one there is.
    pub(super) fn block_at(&self, from: u64) -> Option<&BlockEntry> {
        let at = self.blocks.partition_point(|block| block.end() <= from);
        self.blocks.get(at)
    }
}
