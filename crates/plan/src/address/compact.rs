//! Addresses from the shape of the network, so that routes aggregate.

use super::pool::Pool;
use super::{Exhausted, Need};
use crate::fabric::Fabric;

pub(super) fn lay_out(_fabric: &Fabric<'_>, needs: &[Need], pool: &mut Pool) -> Result<Vec<u64>, Exhausted> {
    let available = pool.free();
    let mut next = 0;
    needs
        .iter()
        .map(|need| {
            let at = pool.first_free(next, need.bits).ok_or_else(|| Exhausted {
                needed: needs.iter().map(|need| 1 << need.bits).sum(),
                available,
            })?;
            pool.take(at, 1 << need.bits);
            next = at + (1 << need.bits);
            Ok(at)
        })
        .collect()
}
