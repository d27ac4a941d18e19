//! Image classification data: readers, resizing, augmentation and disjoint parts
