"""Head CT and MR: from NIfTI or DICOM to a cache of token volumes, data sets and batches.

Images are loaded in `load` and `preprocess`, made into arrays in `prepare`, cut into tokens in `tokens`, kept in
`cache`, and read for training by `dataset`, `sampler`, `collate`, `datamodule`. Scripts import the public names from
`ct_assets.neuro`.
"""
