//! Pictures of another set for the attacker, in place of the audited set's own auxiliary part.

use std::collections::HashMap;
use std::sync::Arc;

use crate::images::{ImageShape, Origin, Pool};
use crate::parts::Parts;
use crate::split::{self, SplitPlan};
use crate::verify::hash;
use crate::{Dataset, Result};

/// What the attacker was given from another set, and what was left out for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherAuxiliary {
    /// The name or path the other set was opened by.
    pub name: String,
    /// The stored part the pictures come from: its auxiliary part if it brings one along, else its training images.
    pub origin: Origin,
    /// Shape in which that part is stored.
    pub native_shape: ImageShape,
    /// Pictures of it that the audited set holds as well, in any part and to the last bit. The attacker does not get them.
    pub shared: usize,
    /// Pictures of the audited set's own auxiliary part. They are used for nothing.
    pub left_out: usize,
}

impl Dataset {
    /// [`split`](Self::split), with an auxiliary part of another set's pictures.
    ///
    /// The other parts are the same pictures as without: what would have been this set's auxiliary part is left out, so that targets are
    /// comparable whoever attacks them. The other set gives its auxiliary part if it brings one along, else its training
    /// images; a held-out share is cut from them as from any auxiliary part. They are shown in this set's resolution and channels: a
    /// grey value becomes three equal ones, RGB becomes luma, `(299 R + 587 G + 114 B)/1000` rounded (ITU-R BT.601).
    ///
    /// # Errors
    /// As [`split`](Self::split), of either set; [`Error::TooFewImages`](crate::Error::TooFewImages) if the other set holds next to
    /// nothing that this one does not hold as well.
    pub fn split_with_auxiliary(
        &self,
        plan: &SplitPlan,
        other: &Dataset,
    ) -> Result<(Parts, OtherAuxiliary)> {
        let parts = self.split(plan)?;
        let stored = other.stored(Origin::Auxiliary).unwrap_or_else(|| other.train());
        // An origin of its own: what is drawn for a picture, by its place, is not drawn for one of the audited set's.
        let pool = Pool {
            origin: Origin::Auxiliary,
            shape: ImageShape { channels: self.native_shape().channels, ..stored.shape },
            pixels: in_channels(stored, self.native_shape().channels),
            labels: stored.labels.clone(),
            classes: Arc::clone(&stored.classes),
        };
        let members = not_in(&pool, &self.pools());
        let shared = pool.len() - members.len();
        let left_out = parts.auxiliary.whole.members.len();
        let what = format!("what {} holds beyond {}", other.name(), self.name());
        let auxiliary = split::auxiliary(&what, (Arc::new(pool), members), plan)?;
        let made = OtherAuxiliary {
            name: other.name().to_owned(),
            origin: stored.origin,
            native_shape: stored.shape,
            shared,
            left_out,
        };
        Ok((Parts { auxiliary, ..parts }, made))
    }

    /// Every stored part.
    fn pools(&self) -> Vec<&Pool> {
        let all = [Origin::Validation, Origin::Auxiliary, Origin::Test];
        let others = all.into_iter().filter_map(|origin| self.stored(origin));
        std::iter::once(self.train()).chain(others).map(|pool| &**pool).collect()
    }
}

/// The pixels of a pool in 1 or 3 channels.
fn in_channels(pool: &Pool, channels: usize) -> Vec<u8> {
    match (pool.shape.channels, channels) {
        (1, 3) => pool.pixels.iter().flat_map(|value| [*value; 3]).collect(),
        (3, 1) => {
            let (pixels, _) = pool.pixels.as_chunks::<3>();
            pixels.iter().map(|pixel| luma(*pixel)).collect()
        }
        _ => pool.pixels.clone(),
    }
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8
}

/// The images of a pool that none of the others holds, ascending.
fn not_in(pool: &Pool, others: &[&Pool]) -> Vec<u32> {
    // Looked up by key and never walked, so that nothing depends on its order.
    let mut known: HashMap<u64, Vec<&[u8]>> = HashMap::new();
    for other in others.iter().filter(|other| other.shape == pool.shape) {
        for index in 0..other.len() {
            let pixels = other.image(index);
            known.entry(hash(pixels)).or_default().push(pixels);
        }
    }
    let held = |index: &u32| {
        let pixels = pool.image(*index as usize);
        known.get(&hash(pixels)).is_some_and(|same| same.contains(&pixels))
    };
    split::everything(pool).into_iter().filter(|index| !held(index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_keeps_greys_and_its_ends() {
        for value in 0..=255 {
            assert_eq!(luma([value; 3]), value);
        }
        // 0.299 · 255 = 76.2, 0.587 · 255 = 149.7, 0.114 · 255 = 29.1
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
    }
}
