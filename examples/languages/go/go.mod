module golden_step

go 1.19
