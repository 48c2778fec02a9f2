//! Who takes part in an election.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Most members of an election.
pub const MAX_MEMBERS: usize = 64;

/// The number of a member; among members that could lead, the highest is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MemberId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<MemberId, Self::Err> {
        text.parse().map(MemberId)
    }
}

/// All members, seen from one of them. The set is fixed: every member must be started with the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Members {
    me: MemberId,
    /// In ascending order, without `me`.
    others: Vec<MemberId>,
}

impl Members {
    /// The members `all`, of whom `me` is one.
    ///
    /// # Errors
    ///
    /// A sentence, when `me` is not among them or they are more than [`MAX_MEMBERS`].
    pub fn new(me: MemberId, all: impl IntoIterator<Item = MemberId>) -> Result<Members, String> {
        let mut others: BTreeSet<MemberId> = all.into_iter().collect();
        if others.len() > MAX_MEMBERS {
            return Err(format!(
                "there are {} members: an election takes at most {MAX_MEMBERS}",
                others.len()
            ));
        }
        if !others.remove(&me) {
            return Err(format!(
                "member {me} is not among the members: name its own endpoint as well"
            ));
        }
        Ok(Members {
            me,
            others: others.into_iter().collect(),
        })
    }

    /// The member from whom it is seen.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// The others, in ascending order.
    pub fn others(&self) -> &[MemberId] {
        &self.others
    }

    /// Everybody, in ascending order.
    pub fn all(&self) -> BTreeSet<MemberId> {
        self.others.iter().copied().chain([self.me]).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.others.len() + 1
    }

    /// How many are more than half.
    pub fn majority(&self) -> usize {
        self.count() / 2 + 1
    }

    /// How many have a higher id.
    pub fn above(&self) -> usize {
        self.others.iter().filter(|&&other| other > self.me).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(me: u64, all: &[u64]) -> Result<Members, String> {
        Members::new(MemberId(me), all.iter().copied().map(MemberId))
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (count, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let all: Vec<u64> = (1..=count).collect();
            assert_eq!(members(1, &all).unwrap().majority(), majority);
        }
    }

    #[test]
    fn a_member_is_one_of_them() {
        assert!(members(4, &[1, 2, 3]).unwrap_err().contains("member 4"));
        let many: Vec<u64> = (0..65).collect();
        assert!(members(1, &many).unwrap_err().contains("at most 64"));
        assert_eq!(members(2, &[3, 2, 1]).unwrap().above(), 1);
    }
}
