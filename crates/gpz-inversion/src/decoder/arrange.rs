//! How a feature comes to a decoder: as a map of channels, whatever the target made of it.

use gpz_nn::blueprint::Layer;

/// A feature as a map, and the layers without parameters that make it one.
pub(super) struct Arranged {
    pub(super) layers: Vec<Layer>,
    /// `[c, h, w]`
    pub(super) map: [usize; 3],
    /// Whether the map is a vector of 1×1, whose places in the picture are not known.
    pub(super) vector: bool,
}

/// A map as it is, a vector `[d]` as `[d, 1, 1]`; tokens as a map of their patches, without the class token.
///
/// # Errors
/// What a feature must be.
pub(super) fn as_map(feature: &[usize], picture: [usize; 3]) -> Result<Arranged, &'static str> {
    match *feature {
        [c, h, w] => Ok(Arranged { layers: Vec::new(), map: [c, h, w], vector: false }),
        [d] => Ok(vector(Vec::new(), d)),
        [tokens, d] => {
            let (grid, class) = patches(tokens, picture).ok_or(
                "tokens [t, d] must be one for each square patch of the picture, with or without a class token before them",
            )?;
            let map = [d, grid[0], grid[1]];
            let mut layers = Vec::new();
            if class {
                layers.push(Layer::WithoutFirstToken);
            }
            layers.extend([Layer::Transpose, Layer::Reshape(map.to_vec())]);
            Ok(Arranged { layers, map, vector: false })
        }
        _ => Err(SHAPES),
    }
}

/// Everything in one vector, tokens row by row; a class token is dropped first.
///
/// # Errors
/// What a feature must be.
pub(super) fn as_vector(feature: &[usize], picture: [usize; 3]) -> Result<Arranged, &'static str> {
    let size = |extents: &[usize]| {
        extents.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).ok_or(SHAPES)
    };
    match *feature {
        [tokens, d] => match patches(tokens, picture) {
            Some((_, true)) => Ok(vector(vec![Layer::WithoutFirstToken], size(&[tokens - 1, d])?)),
            _ => Ok(vector(Vec::new(), size(feature)?)),
        },
        [_] | [_, _, _] => Ok(vector(Vec::new(), size(feature)?)),
        _ => Err(SHAPES),
    }
}

const SHAPES: &str = "a feature map [c, h, w], a vector [d] or tokens [t, d] is needed";

fn vector(mut layers: Vec<Layer>, d: usize) -> Arranged {
    layers.push(Layer::Reshape(vec![d, 1, 1]));
    Arranged { layers, map: [d, 1, 1], vector: true }
}

/// Rows and columns of square patches that a number of tokens stands for, and whether a class token stands before them.
fn patches(tokens: usize, [_, height, width]: [usize; 3]) -> Option<([usize; 2], bool)> {
    let fit = |count: usize| {
        (1..=height.min(width))
            .filter(|patch| height.is_multiple_of(*patch) && width.is_multiple_of(*patch))
            .map(|patch| [height / patch, width / patch])
            .find(|[rows, columns]| rows.checked_mul(*columns) == Some(count))
    };
    let all = fit(tokens).map(|grid| (grid, false));
    all.or_else(|| fit(tokens.checked_sub(1)?).map(|grid| (grid, true)))
}
