"""Steps of the pipeline that compose several rooms: native lesions, measuring, forecasting, responding."""
