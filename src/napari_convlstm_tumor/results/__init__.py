"""The result of one patient and its folder: written whole or not at all, and read back.

PATIENT/
    report.html  visits.csv  lesions.csv  report.json  run.json  recipe.yaml
    prompts.json  links.json  clinical.csv (what was given of these)
    native/visit-01/mask.nii.gz  lesions.nii.gz ...  on the grid of that visit's image, in the order of time
    series/image.nii.gz  image_<modality>  mask  probability  lesions  growth_mm_per_month  growth_reliable
           log_growth_per_month  log_growth_reliable  log_jacobian_per_month  log_jacobian_reliable
           forecast  forecast_band
                                           on the common grid, 4-D with the visit last (those of the forecast are 3-D)
    dicom/                                 SEG, growth maps and SR, when asked for

Every file, column and unit: docs/output.md.

names  the files and what they are called · write  save · read  load · recipe  the settings, to be replayed
"""

from napari_convlstm_tumor.results.names import (
    CLINICAL_FILE,
    IDENTITY_FILE,
    LINKS_FILE,
    PROMPTS_FILE,
    RECIPE_FILE,
    REPORT_FILE,
    RUN_FILE,
    is_result,
)
from napari_convlstm_tumor.results.read import FirstImage, load, load_first_image
from napari_convlstm_tumor.results.recipe import read_recipe
from napari_convlstm_tumor.results.write import save

__all__ = [
    "CLINICAL_FILE",
    "IDENTITY_FILE",
    "LINKS_FILE",
    "PROMPTS_FILE",
    "RECIPE_FILE",
    "REPORT_FILE",
    "RUN_FILE",
    "FirstImage",
    "is_result",
    "load",
    "load_first_image",
    "read_recipe",
    "save",
]
